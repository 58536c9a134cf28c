fn main() {
    graphc_build::Model::new("../../tests/golden/mlp/saved_model").compile("mlp");
}
