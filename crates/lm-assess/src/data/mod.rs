//! Data sets: prompts and conversations from the formats that people have, with identities, splits and text-only baselines.
