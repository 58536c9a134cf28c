//! Random numbers and samplers.

mod binomial;
mod candidates;
mod distribution;
mod fill;
mod gamma;
mod multinomial;
pub(crate) mod philox;
mod shuffle;
mod sobol;
mod stateful;
mod stateless;
mod truncated;
mod unigram;
mod variable;

pub(crate) use philox::{Philox, Singles};

use crate::Table;

pub(crate) use distribution::Float;
pub(crate) use stateful::reserve;
pub(crate) use stateless::seeded;

pub(crate) const TABLE: Table = &[
    ("RandomUniform", stateful::uniform),
    ("RandomStandardNormal", stateful::standard_normal),
    ("TruncatedNormal", stateful::truncated_normal),
    ("RandomUniformInt", stateful::uniform_int),
    ("RandomShuffle", stateful::shuffle),
    ("RandomGamma", gamma::gamma),
    ("RandomPoisson", gamma::poisson),
    ("RandomPoissonV2", gamma::poisson),
    ("Multinomial", multinomial::stateful),
    ("ParameterizedTruncatedNormal", truncated::stateful),
    ("StatelessRandomUniform", stateless::uniform),
    ("StatelessRandomUniformV2", stateless::uniform_v2),
    ("StatelessRandomNormal", stateless::normal),
    ("StatelessRandomNormalV2", stateless::normal_v2),
    ("StatelessTruncatedNormal", stateless::truncated_normal),
    ("StatelessTruncatedNormalV2", stateless::truncated_normal_v2),
    ("StatelessRandomUniformInt", stateless::uniform_int),
    ("StatelessRandomUniformIntV2", stateless::uniform_int_v2),
    ("StatelessRandomUniformFullInt", stateless::uniform_full_int),
    ("StatelessRandomUniformFullIntV2", stateless::uniform_full_int_v2),
    ("StatelessRandomGetKeyCounter", stateless::key_counter),
    ("StatelessRandomGetKeyCounterAlg", stateless::key_counter_alg),
    ("StatelessRandomGetAlg", stateless::alg),
    ("StatelessShuffle", stateless::shuffle),
    ("StatelessRandomGammaV2", gamma::stateless_gamma),
    ("StatelessRandomGammaV3", gamma::stateless_gamma_keyed),
    ("StatelessRandomPoisson", gamma::stateless_poisson),
    ("StatelessRandomBinomial", binomial::stateless),
    ("StatelessMultinomial", multinomial::stateless),
    ("StatelessParameterizedTruncatedNormal", truncated::stateless),
    ("RandomIndexShuffle", stateless::index_shuffle),
    ("StatefulUniform", variable::uniform),
    ("StatefulStandardNormalV2", variable::standard_normal),
    ("StatefulStandardNormal", variable::deprecated),
    ("StatefulTruncatedNormal", variable::truncated_normal),
    ("StatefulUniformInt", variable::uniform_int),
    ("StatefulUniformFullInt", variable::uniform_full_int),
    ("StatefulRandomBinomial", variable::binomial),
    ("RngSkip", variable::skip),
    ("RngReadAndSkip", variable::read_and_skip),
    ("UniformCandidateSampler", candidates::uniform),
    ("LogUniformCandidateSampler", candidates::log_uniform),
    ("LearnedUnigramCandidateSampler", candidates::learned_unigram),
    ("ThreadUnsafeUnigramCandidateSampler", candidates::learned_unigram),
    ("FixedUnigramCandidateSampler", candidates::fixed_unigram),
    ("AllCandidateSampler", candidates::all),
    ("ComputeAccidentalHits", candidates::accidental_hits),
    ("SobolSample", sobol::sample),
    ("NonDeterministicInts", variable::nondeterministic_ints),
];
