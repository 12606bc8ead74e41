//! The one facade over DataFusion's async side.
