#!/usr/bin/env node
/**
 * The command line program blockwright.
 */
export {};
