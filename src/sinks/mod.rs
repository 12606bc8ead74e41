//! Carries changelogs into other systems.
