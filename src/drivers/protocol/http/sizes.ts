/** Sizes of requests, apart from the options, whose tables not everybody needs who reads by ranges. */
import { KiB, MiB } from "../../../base/limits.ts";

/** Default unit of requests, bytes. */
export const HTTP_CLUSTER_BYTES = 64 * KiB;
/** Most bytes of one request that joins several clusters. */
export const HTTP_MAX_REQUEST_BYTES = MiB;
