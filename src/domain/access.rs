//! Who is let in before anything is known of a tenant.

super::state_words! {
    /// Who may call a service that tells nothing of any tenant: health, reflection.
    pub enum Exposure {
        /// Anybody.
        Open = "open",
        /// Whoever has a valid key, whatever its scopes.
        Keyed = "keyed",
        /// Nobody: it is not there.
        Off = "off",
    }
}

super::state_words! {
    /// What the server asks of a client's certificate.
    pub enum ClientAuth {
        /// Nothing: it asks for none.
        None = "none",
        /// A client may come without one; one that it shows must be valid.
        Optional = "optional",
        /// No connection without a valid one.
        Required = "required",
    }
}
