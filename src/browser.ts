/**
 * The browser entry: the portable library with the browser platform.
 */
export {};
