//! Twilio's REST API, TwiML and webhook signatures.
