//! Who may do what: both authentication modes on one page.
