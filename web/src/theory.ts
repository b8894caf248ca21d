/** Every number on the page comes from here; each file mirrors the one whose name it begins with in src/evenly/theory. */
export * from "./theory/overlap";
export * from "./theory/phases";
export * from "./theory/balance";
export * from "./theory/resize";
export * from "./theory/support";
export * from "./theory/prior";
export * from "./theory/prior_statistics";
export * from "./theory/backward";
export * from "./theory/matrices";
