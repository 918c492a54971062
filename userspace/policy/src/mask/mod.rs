//! Masking: recognizers, tokens and the redactor of a session.
