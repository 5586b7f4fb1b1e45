"""RelFlexformer: linear attention that knows how far apart two points are, through the Fourier transform of any function of their difference.

    y_i = sum_j A_ij v_j / sum_j A_ij,   A_ij = phi(q_i).phi(k_j) f(p_i - p_j),   f(d) = E_xi cos(xi.d) ~ 1/M sum_m cos(xi_m.d)

p: (points, 3); phi(q), phi(k): (points, size), positive; xi_m: frequencies drawn from the Fourier transform of f, here a Gaussian's, exp(-|d|^2 /
2 s^2), s one a head and learned. cos(xi.(a - b)) = cos(xi.a) cos(xi.b) + sin(xi.a) sin(xi.b), so A is a product of features phi x (cos, sin) of one
point each, (points, 2 M size), and its sums over j are taken once for all i. A finite M may make a row's sum small or negative: it counts as at least
`FLOOR` of the sum without f.

"RelFlexformer" (arXiv 2605.10706): integrable f, the non-uniform fast Fourier transform in O(L log L). That transform grids and scatters; at a fixed
number of frequencies the same sum is two products of constants with coordinates, which every engine runs. Derived here from the abstract, with
"Rethinking Attention with Performers" (arXiv 2009.14794) and random features (Rahimi, Recht, 2007): a reference reconstruction.
Task: which kind of surface (sphere, cube, torus, cone) every point of a cloud lies on. The network reads normals; where a point is, only f sees.
"""
