//! Which experts rows chose.

/// The choices of some rows: `top_k` ids and weights a row.
pub(crate) struct Routes {
    pub top_k: usize,
    pub ids: Vec<u32>,
    pub weights: Vec<f32>,
}

impl Routes {
    /// For every expert, the places (row times `top_k` plus rank) that it was chosen at.
    pub fn loads(&self, experts: usize) -> Vec<Vec<u32>> {
        let mut loads = vec![Vec::new(); experts];
        for (place, &id) in self.ids.iter().enumerate() {
            if let Some(load) = loads.get_mut(id as usize) {
                load.push(place as u32);
            }
        }
        loads
    }

    /// The rows of some places.
    pub fn rows_at(&self, places: &[u32]) -> Vec<u32> {
        let top_k = self.top_k as u32;
        places.iter().map(|place| place / top_k).collect()
    }

    /// The weights at some places.
    pub fn weights_at(&self, places: &[u32]) -> Vec<f32> {
        let places = places.iter();
        places.map(|&place| self.weights[place as usize]).collect()
    }
}
