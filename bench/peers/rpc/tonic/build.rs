// The service as tonic would generate it from bench/protos, without needing protoc.
use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo::rustc-env=TONIC_VERSION={}", locked("tonic"));
    let unary = Method::builder()
        .name("unary")
        .route_name("Unary")
        .input_type("crate::Note")
        .output_type("crate::Note")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let echo = Service::builder().name("Echo").package("bench.v1").method(unary).build();
    Builder::new().build_client(false).compile(&[echo]);
}

/// The version of a package in Cargo.lock.
fn locked(package: &str) -> String {
    let lock = std::fs::read_to_string("Cargo.lock").expect("Cargo.lock lies beside Cargo.toml");
    let entry = format!("name = \"{package}\"\nversion = \"");
    let (_, rest) = lock.split_once(&entry).expect("every dependency is in Cargo.lock");
    rest.split('"').next().unwrap_or_default().to_owned()
}
