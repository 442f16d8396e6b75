//! ctlstore
