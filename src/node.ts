/**
 * The Node entry: the portable library with the Node platform.
 */
export {};
