// Which mounts are served by somebody who may not answer, out of the list of mounts as Linux writes it.
import { statSync } from "node:fs";
import { expect, test } from "vitest";
import { isOn, servedDevices } from "../../../../src/platform/node/mounts.ts";

const mounts = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
24 23 0:22 / /proc/sys/fs/binfmt_misc rw shared:2 - autofs systemd-1 rw,fd=29
25 22 0:23 / /sys/fs/fuse/connections rw - fusectl fusectl rw
26 22 0:24 / /run/user/1000/doc rw - fuse.portal portal rw
27 22 0:25 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw
28 22 0:40 / /mnt/nbd rw,nosuid - fuse nbdfuse rw,user_id=0
29 22 0:41 / /mnt/ssh rw master:3 shared:4 - fuse.sshfs host:/ rw
30 22 8:17 / /mnt/ntfs rw - fuseblk /dev/sdb1 rw
31 22 0:43 / /mnt/my\\040share rw - nfs4 server:/x rw
32 22 0:44 / /mnt/nfsd rw - nfsd nfsd rw
33 22 0:45 / /home rw - autofs /etc/auto.home rw
34 22 0:46 / /mnt/c rw - 9p drvfs rw
`;

test("what others serve is known by its device, and what can't hold an image is not", () => {
  expect([...servedDevices(mounts)]).toEqual(["0:40", "0:41", "8:17", "0:43", "0:45", "0:46"]);
});

test("a machine may have none, or no list", () => {
  expect(servedDevices("22 1 254:0 / / rw - ext4 /dev/vda rw\n").size).toBe(0);
  expect(servedDevices("").size).toBe(0);
});

test("a file is found on its device", () => {
  const facts = statSync(import.meta.filename, { bigint: true });
  const [major, minor] = [(facts.dev >> 8n) & 0xfffn, (facts.dev & 0xffn) | ((facts.dev >> 12n) & 0xfff00n)];
  expect(isOn(new Set([`${major}:${minor}`]), facts)).toBe(true);
  expect(isOn(new Set(["999:1"]), facts)).toBe(false);
  expect(isOn(new Set(), facts)).toBe(false);
});
