"""What runs on the device: bundle, session, verify, bench. numpy and an engine, never torch."""
