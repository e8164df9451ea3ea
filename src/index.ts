/**
 * The portable entry: what runs in Node and in browsers alike.
 */
export {};
