//! config.json to an inert description of the model.
