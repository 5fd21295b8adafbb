//! A TCP proxy for faults below HTTP. It knows nothing of what it carries.
