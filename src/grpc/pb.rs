//! The generated messages and services of `trunkline.v1`.
#![allow(clippy::all, clippy::pedantic, missing_docs)]

tonic::include_proto!("trunkline.v1");

/// The descriptors of every proto, for server reflection.
pub const DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/trunkline_descriptor.bin"));

/// Messages that hold a secret do not print it; the others print what they hold.
macro_rules! redacted {
    ($($message:ident),+) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), "([redacted])"))
            }
        }
    )+};
}
redacted!(
    CarrierApiKey,
    CarrierSecrets,
    CreateApiKeyResponse,
    CreateWebhookResponse,
    RotateWebhookSecretResponse
);
