/**
 * The command line program blockwright.
 */
export {};
