//! Linear algebra on the inner matrices of tensors, for real and complex numbers of single and double precision. Where factors are free
//! up to signs or phases, they are those of TensorFlow, whose library is Eigen.

pub mod batch;
mod decompose;
pub mod factor;
pub mod field;
mod functions;
mod householder;
mod product;
mod rotation;
mod schur;
mod solve;
mod svd;
mod symmetric;
mod tridiagonal;

pub const TABLE: crate::Table = &[
    ("Cholesky", decompose::cholesky),
    ("BatchCholesky", decompose::cholesky),
    ("CholeskyGrad", decompose::cholesky_grad),
    ("BatchCholeskyGrad", decompose::cholesky_grad),
    ("Lu", decompose::lu),
    ("Qr", decompose::qr),
    ("Svd", decompose::svd),
    ("BatchSvd", decompose::svd),
    ("SelfAdjointEig", decompose::self_adjoint_eig_in_one),
    ("BatchSelfAdjointEig", decompose::self_adjoint_eig_in_one),
    ("SelfAdjointEigV2", decompose::self_adjoint_eig),
    ("BatchSelfAdjointEigV2", decompose::self_adjoint_eig),
    ("Eig", decompose::eig),
    ("MatrixInverse", functions::inverse),
    ("BatchMatrixInverse", functions::inverse),
    ("MatrixDeterminant", functions::determinant),
    ("BatchMatrixDeterminant", functions::determinant),
    ("LogMatrixDeterminant", functions::log_determinant),
    ("MatrixLogarithm", functions::logarithm),
    ("MatrixSquareRoot", functions::square_root),
    ("MatrixExponential", functions::exponential),
    ("MatrixSolve", solve::solve),
    ("BatchMatrixSolve", solve::solve),
    ("MatrixSolveLs", solve::least_squares),
    ("BatchMatrixSolveLs", solve::least_squares),
    ("MatrixTriangularSolve", solve::triangular),
    ("BatchMatrixTriangularSolve", solve::triangular),
    ("BandedTriangularSolve", solve::banded),
    ("TridiagonalSolve", tridiagonal::solve),
    ("TridiagonalMatMul", tridiagonal::mat_mul),
];
