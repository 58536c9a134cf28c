fn main() {
    for name in ["mlp", "words"] {
        graphc_build::Model::new(format!("../../tests/golden/{name}/saved_model")).compile(name);
    }
}
