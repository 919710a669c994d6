//! Compiles the protos without protoc and keeps their descriptors for server reflection.

use std::path::PathBuf;

const PROTOS: [&str; 9] = [
    "trunkline/v1/forecast.proto",
    "trunkline/v1/runs.proto",
    "trunkline/v1/suppressions.proto",
    "trunkline/v1/leads.proto",
    "trunkline/v1/maintenance.proto",
    "trunkline/v1/outbound_queue.proto",
    "trunkline/v1/tenants.proto",
    "trunkline/v1/transfers.proto",
    "trunkline/v1/webhooks.proto",
];

/// Messages that hold a secret; grpc/pb.rs prints them without it.
const SECRET: [&str; 5] = [
    ".trunkline.v1.CarrierApiKey",
    ".trunkline.v1.CarrierSecrets",
    ".trunkline.v1.CreateApiKeyResponse",
    ".trunkline.v1.CreateWebhookResponse",
    ".trunkline.v1.RotateWebhookSecretResponse",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let descriptors = protox::Compiler::new(["proto"])?
        .include_source_info(true)
        .include_imports(true)
        .open_files(PROTOS)?
        .file_descriptor_set();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let bytes = protox::prost::Message::encode_to_vec(&descriptors);
    std::fs::write(out.join("trunkline_descriptor.bin"), bytes)?;
    // Ordered maps, so that the same request has the same bytes, and the same hash, in every
    // process.
    tonic_prost_build::configure().btree_map(".").skip_debug(SECRET).compile_fds(descriptors)?;
    Ok(())
}
