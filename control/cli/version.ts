// The version of the product, which the build takes from package.json.

declare const PLINTH_VERSION: string | undefined;

export const VERSION: string = typeof PLINTH_VERSION === "string" ? PLINTH_VERSION : "development";
