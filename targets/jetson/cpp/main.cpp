// Runs a bundle's engine once from C++: edgeattn_run BUNDLE model.plan INPUT.bin...
// Names, shapes and types come from the bundle's manifest.json; each INPUT.bin holds one sample, row-major, in the manifest's order and type.
// Build the engine first: python3 device/run.py build --repository FOLDER. Works with TensorRT 8.2 and newer.
#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#define BY_NAME (NV_TENSORRT_MAJOR > 8 || (NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR >= 5))

namespace {

class Logger : public nvinfer1::ILogger {
    void log(Severity severity, const char* message) noexcept override {
        if (severity <= Severity::kERROR) std::cerr << message << '\n';
    }
};

std::vector<char> readFile(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + " cannot be read");
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

// One input or output of the manifest; a named axis, such as "batch", is 1 here.
struct Tensor {
    std::string name, dtype;
    nvinfer1::Dims shape{};
    std::vector<char> host;
    void* device = nullptr;

    explicit Tensor(const nlohmann::json& spec) : name(spec.at("name")), dtype(spec.at("dtype")) {
        for (const auto& size : spec.at("shape")) shape.d[shape.nbDims++] = size.is_number() ? size.get<int>() : 1;
        host.resize(count() * itemSize());
        check(cudaMalloc(&device, host.empty() ? 1 : host.size()), "cudaMalloc");
    }
    Tensor(const Tensor&) = delete;
    Tensor& operator=(const Tensor&) = delete;
    ~Tensor() { cudaFree(device); }

    std::size_t count() const {
        std::size_t product = 1;
        for (int axis = 0; axis < shape.nbDims; ++axis) product *= static_cast<std::size_t>(shape.d[axis]);
        return product;
    }
    std::size_t itemSize() const {
        static const std::map<std::string, std::size_t> sizes{{"float32", 4}, {"int32", 4}, {"int64", NV_TENSORRT_MAJOR >= 10 ? 8u : 4u}, {"bool", 1}};
        const auto found = sizes.find(dtype);
        if (found == sizes.end()) throw std::runtime_error("tensor " + name + " has type " + dtype + ", which this example does not read");
        return found->second;
    }
    void load(const std::string& path) {
        const auto bytes = readFile(path);
        const bool narrow = dtype == "int64" && itemSize() == 4;  // TensorRT before 10 takes 32-bit integers only
        if (bytes.size() != host.size() * (narrow ? 2 : 1))
            throw std::runtime_error(path + " has " + std::to_string(bytes.size()) + " bytes, input " + name + " needs " + std::to_string(host.size() * (narrow ? 2 : 1)));
        if (narrow) {
            const auto* wide = reinterpret_cast<const std::int64_t*>(bytes.data());
            for (std::size_t i = 0; i < count(); ++i) reinterpret_cast<std::int32_t*>(host.data())[i] = static_cast<std::int32_t>(wide[i]);
        } else {
            host = bytes;
        }
    }
};

using Tensors = std::vector<std::unique_ptr<Tensor>>;

Tensors tensorsOf(const nlohmann::json& specs) {
    Tensors found;
    for (const auto& spec : specs) found.push_back(std::make_unique<Tensor>(spec));
    return found;
}

void runOnce(nvinfer1::ICudaEngine& engine, nvinfer1::IExecutionContext& context, const Tensors& inputs, const Tensors& outputs, cudaStream_t stream) {
    for (const auto& input : inputs) check(cudaMemcpyAsync(input->device, input->host.data(), input->host.size(), cudaMemcpyHostToDevice, stream), "copy to the GPU");
#if BY_NAME
    (void)engine;
    for (const auto& input : inputs) {
        if (!context.setInputShape(input->name.c_str(), input->shape)) throw std::runtime_error("input " + input->name + " is outside the shapes the engine was built for");
        context.setTensorAddress(input->name.c_str(), input->device);
    }
    for (const auto& output : outputs) context.setTensorAddress(output->name.c_str(), output->device);
    const bool done = context.enqueueV3(stream);
#else
    std::vector<void*> bindings(static_cast<std::size_t>(engine.getNbBindings()));
    for (const auto* group : {&inputs, &outputs})
        for (const auto& tensor : *group) {
            const int index = engine.getBindingIndex(tensor->name.c_str());
            if (index < 0) throw std::runtime_error("the engine has no tensor " + tensor->name);
            if (engine.bindingIsInput(index) && !context.setBindingDimensions(index, tensor->shape)) throw std::runtime_error("input " + tensor->name + " is outside the shapes the engine was built for");
            bindings[static_cast<std::size_t>(index)] = tensor->device;
        }
    const bool done = context.enqueueV2(bindings.data(), stream, nullptr);
#endif
    if (!done) throw std::runtime_error("the engine stopped while running");
    for (const auto& output : outputs) check(cudaMemcpyAsync(output->host.data(), output->device, output->host.size(), cudaMemcpyDeviceToHost, stream), "copy from the GPU");
    check(cudaStreamSynchronize(stream), "waiting for the GPU");
}

int run(const std::vector<std::string>& arguments) {
    if (arguments.size() < 3) throw std::runtime_error("usage: edgeattn_run BUNDLE model.plan INPUT.bin...");
    const auto text = readFile(arguments[0] + "/manifest.json");
    const auto manifest = nlohmann::json::parse(text.begin(), text.end());
    const auto inputs = tensorsOf(manifest.at("inputs")), outputs = tensorsOf(manifest.at("outputs"));
    if (arguments.size() - 2 != inputs.size()) throw std::runtime_error("the bundle has " + std::to_string(inputs.size()) + " inputs, " + std::to_string(arguments.size() - 2) + " files were given");
    for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i]->load(arguments[i + 2]);

    Logger logger;
    const auto plan = readFile(arguments[1]);
    const std::unique_ptr<nvinfer1::IRuntime> runtime(nvinfer1::createInferRuntime(logger));
    const std::unique_ptr<nvinfer1::ICudaEngine> engine(runtime->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine) throw std::runtime_error(arguments[1] + " is no engine for this board: build it here");
    const std::unique_ptr<nvinfer1::IExecutionContext> context(engine->createExecutionContext());
    if (!context) throw std::runtime_error("no memory for the engine");
    cudaStream_t stream{};
    check(cudaStreamCreate(&stream), "cudaStreamCreate");
    runOnce(*engine, *context, inputs, outputs, stream);
    for (const auto& output : outputs) {
        std::cout << output->name << ':';
        for (std::size_t i = 0; i < output->count() && output->dtype == "float32"; ++i) std::cout << ' ' << reinterpret_cast<const float*>(output->host.data())[i];
        std::cout << '\n';
    }
    cudaStreamDestroy(stream);
    return 0;
}

}  // namespace

int main(int count, char** words) {
    try {
        return run({words + 1, words + count});
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << '\n';
        return 2;
    }
}
