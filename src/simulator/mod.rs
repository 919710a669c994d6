//! A Twilio-compatible server for tests, demos and rehearsals.
