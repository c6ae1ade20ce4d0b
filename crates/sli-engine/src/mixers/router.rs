//! Which experts a token goes to, and with what weight.

use sli_spec::{Router, RouterGroups, RouterScore};

/// Chooses `top_k` experts for one token from its router logits (changed in place), ties to the
/// smaller index. `ids` and `weights` have `top_k` places.
pub(crate) fn choose(
    router: &Router,
    bias: Option<&[f32]>,
    logits: &mut [f32],
    ids: &mut [u32],
    weights: &mut [f32],
) {
    match router.score {
        RouterScore::Softmax => softmax(logits),
        RouterScore::Sigmoid => {
            for logit in logits.iter_mut() {
                *logit = 1.0 / (1.0 + (-*logit).exp());
            }
        }
        RouterScore::SoftmaxOfTopK => {}
    }
    let mut choice: Vec<f32> = match bias {
        Some(bias) => logits
            .iter()
            .zip(bias)
            .map(|(score, bias)| score + bias)
            .collect(),
        None => logits.to_vec(),
    };
    if let Some(groups) = router.groups {
        limit_to_groups(groups, &mut choice);
    }
    best(&choice, ids);
    for (weight, &id) in weights.iter_mut().zip(ids.iter()) {
        *weight = logits[id as usize];
    }
    if router.score == RouterScore::SoftmaxOfTopK {
        softmax(weights);
    }
    if router.renormalize {
        let sum: f32 = weights.iter().sum::<f32>() + 1e-20;
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    weights
        .iter_mut()
        .for_each(|weight| *weight *= router.scale as f32);
}

fn softmax(values: &mut [f32]) {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - max).exp();
        sum += *value;
    }
    values.iter_mut().for_each(|value| *value /= sum);
}

/// Masks the experts outside the best groups.
fn limit_to_groups(groups: RouterGroups, choice: &mut [f32]) {
    let size = choice.len() / groups.count.max(1);
    let scores: Vec<f32> = choice
        .chunks_exact(size.max(1))
        .map(|group| {
            let mut ids = vec![0; groups.best.min(group.len())];
            best(group, &mut ids);
            ids.iter().map(|&id| group[id as usize]).sum()
        })
        .collect();
    let mut chosen = vec![0; groups.chosen.min(scores.len())];
    best(&scores, &mut chosen);
    for (index, group) in choice.chunks_exact_mut(size.max(1)).enumerate() {
        if !chosen.contains(&(index as u32)) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

/// The indices of the largest values, best first, ties to the smaller index.
fn best(values: &[f32], ids: &mut [u32]) {
    for place in 0..ids.len() {
        let (taken, free) = ids.split_at_mut(place);
        let mut found: Option<usize> = None;
        for (index, &value) in values.iter().enumerate() {
            if !taken.contains(&(index as u32)) && found.is_none_or(|best| value > values[best]) {
                found = Some(index);
            }
        }
        free[0] = found.unwrap_or(0) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::{best, limit_to_groups};
    use sli_spec::RouterGroups;

    #[test]
    fn ties_go_to_the_smaller_index() {
        let mut ids = [0; 3];
        best(&[1.0, 3.0, 3.0, 2.0], &mut ids);
        assert_eq!(ids, [1, 2, 3]);
    }

    #[test]
    fn only_the_best_groups_remain() {
        let mut choice = [0.9, 0.0, 0.5, 0.5, 0.1, 0.2];
        limit_to_groups(
            RouterGroups {
                count: 3,
                chosen: 1,
                best: 2,
            },
            &mut choice,
        );
        assert_eq!(choice[2..4], [0.5, 0.5]);
        assert!(choice[0].is_infinite() && choice[5].is_infinite());
    }
}
