// Puts the Linux guest of the demo page together: `node .ci/ts.mjs test/support/v86/debian-demo.ts FOLDER` writes vmlinuz and
// initrd. The guest has a shell, and three commands for its disk.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { START, linuxGuest } from "./debian.ts";

/** A sector that the disk's other guest leaves alone. */
const NOTE_SECTOR = 1024;
const NOTE_BYTES = 400;

const INIT = `${START}
busybox mkdir -p /sys /tmp
busybox mount -t sysfs sys /sys
busybox --install -s /bin
cat > /bin/note << 'END'
#!/bin/sh
printf '%s' "$*" | head -c ${NOTE_BYTES} | dd of=/dev/sda bs=512 seek=${NOTE_SECTOR} conv=sync,notrunc,fsync 2> /dev/null
notes
END
cat > /bin/notes << 'END'
#!/bin/sh
echo "Kept on this disk: $(dd if=/dev/sda bs=512 skip=${NOTE_SECTOR} count=1 2> /dev/null | tr -d '\\000')"
END
cat > /bin/sum << 'END'
#!/bin/sh
echo 3 > /proc/sys/vm/drop_caches
time md5sum /dev/sda
END
chmod +x /bin/note /bin/notes /bin/sum
clear
echo "Debian's Linux $(uname -r). The disk is /dev/sda, $(($(cat /sys/block/sda/size) / 2048)) MiB."
echo
echo "  note TEXT   keeps a text on the disk"
echo "  notes       shows it"
echo "  sum         reads the whole disk"
echo
notes
cd /tmp
exec setsid cttyhack sh
`;

const folder = process.argv[2];
if (folder === undefined) throw new Error("usage: debian-demo.ts FOLDER");
const { kernel, initrd } = linuxGuest(INIT);
mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, "vmlinuz"), kernel);
writeFileSync(join(folder, "initrd"), initrd);
