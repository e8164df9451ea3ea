/**
 * nbd: a disk on an NBD server, over TCP or a Unix socket, with or without TLS. Platform: Host.sockets.
 * Source: QAPI BlockdevOptionsNbd; behaviour of QEMU 7.2's client; doc/proto.md of NBD.
 */
import { strerror } from "../../../base/errno.ts";
import { blockError } from "../../../base/errors.ts";
import type { BlockDriver, DriverType, NodeSpec, OpenContext } from "../../../block/model/contract.ts";
import { makeInPlace } from "../../../block/graph/in-place.ts";
import { exportFlag } from "../../../wire/nbd/constants.ts";
import { NbdDriver } from "./driver.ts";
import { openLink } from "./link.ts";
import { modernNbdOptions, parseNbdName, plainNbdName } from "./names.ts";
import { nbdOptions } from "./options.ts";

async function open(context: OpenContext, spec: NodeSpec): Promise<BlockDriver> {
  const { host, node } = context;
  const options = nbdOptions(spec, context);
  const link = await openLink(host, options);
  try {
    const { flags, contextId } = link.agreement;
    if (options.isContextNamed && contextId === undefined)
      throw blockError("EINVAL", "open", `Could not open image: ${strerror("EINVAL")}`);
    if ((flags & exportFlag.readOnly) !== 0 && !node.readOnly) {
      if (!node.options.autoReadOnly)
        throw blockError("EACCES", "open", `Could not open image: ${strerror("EACCES")}`);
      node.options = { ...node.options, readOnly: true };
    }
    return new NbdDriver(node, link);
  } catch (error) {
    await link.close();
    throw error;
  }
}

/**
 * Options: those of QEMU (`server`, `export`, `tls-creds`, `tls-hostname`, `x-dirty-bitmap`, `reconnect-delay`,
 * `open-timeout`), and `tls`: TLS by the platform's own authorities. Errors of requests: those that the server
 * answers, EIO (the link is lost, or the server broke the protocol), ESTALE (the export is another one).
 */
export const nbd: DriverType = {
  name: "nbd",
  kind: "protocol",
  protocols: ["nbd+tcp", "nbd+unix", "nbds", "nbds+unix"],
  makeInPlace,
  parseName: parseNbdName,
  modernOptions: modernNbdOptions,
  namedBy: ["server", "export", "tls-creds", "tls-hostname", "tls"].flatMap((name) =>
    name === "server" ? ["type", "path", "host", "port"].map((member) => `server.${member}`) : name,
  ),
  plainName: plainNbdName,
  open,
};
