// Seeds with which the fuzzer has found something: the seed, steps, and what it was. They run first, always.

export const SEEDS: [seed: number, steps: number, what: string][] = [];
