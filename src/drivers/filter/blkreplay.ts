/**
 * blkreplay: hands requests on as they are, as QEMU's does in a machine that neither records nor replays: `-icount rr=…`, by which QEMU's
 * notes when a guest's requests end, is of a CPU. Descriptions of machines that have it open, and their disks work.
 * Source: QAPI BlockdevOptionsBlkreplay; behaviour of QEMU 7.2.
 */
import { type DriverType, Role } from "../../block/model/contract.ts";
import { FilterDriver } from "../../block/model/filter-driver.ts";
import { childOption } from "../../block/model/options.ts";

/** Options: `image`, the disk. Errors: those of the disk. */
export const blkreplay: DriverType = {
  name: "blkreplay",
  staysAsOpened: true,
  kind: "filter",
  async open(context, spec) {
    const image = childOption(spec, "image");
    return new FilterDriver(await context.openChild(image, "image", Role.filtered | Role.primary));
  },
};
