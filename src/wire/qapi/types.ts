/**
 * All types of the schema, put together: by themselves, so that who reads descriptions only has no commands with it.
 */
import { optionTypes } from "./option-types.ts";
import { tableOf } from "./schema.ts";
import { commonTypes } from "./types-common.ts";
import { cryptoInfoTypes } from "./types-crypto-info.ts";
import { exportTypes } from "./types-export.ts";
import { jobTypes } from "./types-job.ts";
import { queryTypes } from "./types-query.ts";
import { tlsTypes } from "./types-tls.ts";

/** The types by name. */
export const typeTable = tableOf(
  optionTypes,
  commonTypes,
  cryptoInfoTypes,
  exportTypes,
  jobTypes,
  queryTypes,
  tlsTypes,
);
