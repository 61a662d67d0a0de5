// Name and version of this control domain, for people and for `hello`.

export const PRODUCT: string = "plinth control";
export const VERSION: string = "0.1.0";
export const BUILD: string = "AssemblyScript, ABI 1";
