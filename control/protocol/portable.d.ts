// AssemblyScript's integers, for tsc: what both languages compile counts with them and never divides with a rest.

type i32 = number;
type i64 = number;
