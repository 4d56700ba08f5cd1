//! Nothing: what is wanted of this package are its dependencies.
