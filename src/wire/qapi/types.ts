/**
 * All types of the schema, put together: by themselves, so that who reads descriptions only has no commands with it.
 */
import { blockdevTypes } from "./types-blockdev.ts";
import { commonTypes } from "./types-common.ts";
import { cryptoTypes } from "./types-crypto.ts";
import { jobTypes } from "./types-job.ts";
import { queryTypes } from "./types-query.ts";

/** The types by name. */
export const typeTable = {
  ...commonTypes,
  ...blockdevTypes,
  ...cryptoTypes,
  ...jobTypes,
  ...queryTypes,
} as const;
