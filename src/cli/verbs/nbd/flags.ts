/** The options of `nbd`, as the command line gives them. */
import type { VerbFlags } from "../../options/flags.ts";

/** Options of the verb. */
export interface NbdFlags extends VerbFlags {
  port: string;
  bind?: string;
  socket?: string;
  websocket?: string | true;
  shared: string;
  persistent?: boolean;
  verbose?: boolean;
  exportName: string;
  description?: string;
  offset?: string;
  allocationDepth?: boolean;
  bitmap?: string[];
  list?: boolean;
  tlsCreds?: string;
  tlsAuthz?: string;
  tlsHostname?: string;
  allowPlainTcp?: boolean;
  fork?: boolean;
  pidFile?: string;
  selinuxLabel?: string;
  connect?: string;
  disconnect?: boolean;
  format?: string;
  imageOpts?: boolean;
  readOnly?: boolean;
  snapshot?: boolean;
  loadSnapshot?: string;
  nocache?: boolean;
  /** Of these three one may be given; the parser keeps them all. */
  cache?: string[];
  aio?: string[];
  discard?: string[];
  detectZeroes?: string;
}
