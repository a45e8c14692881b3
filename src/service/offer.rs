//! OFFERS: the one table of capabilities and commands.
