// What `help` says.

import { Words } from "../commands";
import { findCommand, shellCommands } from "./table";

/** What `help`, or `help COMMAND` of a command that there is, prints. */
export function helpText(name: string): string {
  if (name == "") {
    const all = shellCommands();
    let list = "";
    for (let i = 0; i < all.length; i++) list += all[i].name.padEnd(10, " ") + all[i].summary + "\n";
    return list + "Tab completes, arrows edit and recall. help COMMAND says how to use one.\n";
  }
  const command = findCommand(name)!;
  return "usage: " + command.usage + "\n       " + command.summary + "\n" + detailsOf(command.words);
}

/** What the words of a command mean. */
function detailsOf(words: Words): string {
  if (words == Words.TENANT)
    return (
      "  memory=  that all its VMs have together, running or not: 512M; none: no limit\n" +
      "  vms=     how many VMs      vcpus=  how many vCPUs, of all of them together\n" +
      "  cpus=    of the host, that are its own: 0-3,6; none: it shares what is nobody's\n" +
      "  exits=, ipis=  what its VMs may cause in a second, all together\n" +
      "  hypercalls=    of their device models, in a second      log=  bytes that those write to the kernel's log\n" +
      "  cache=   percent of the last-level cache, nobody else's      bandwidth=  of the memory's, at most\n" +
      "  what is not given stays; tenants lists them; create NAME tenant=... gives one a VM\n"
    );
  if (words == Words.SNAPSHOT)
    return (
      "  create   keeps a VM as it is while it runs; note=TEXT; --overcommit: without memory kept for all that it\n" +
      "           may write, so that it can be paused for want of it\n" +
      "  ls, show, rm      restore  the VM goes back; --force if it runs; it is made again if it is gone\n" +
      "  clone    a new VM goes on from there; --paused; tenant=NAME; --overcommit\n" +
      "for instance:\nsnapshot create ada before-update\nsnapshot clone before-update ada2\n"
    );
  if (words == Words.EVENTS) return "  COUNT    so many of the newest      --since N  those after number N\n";
  if (words == Words.CONSOLE)
    return "  --read-only  only watch      --force  take it over from who types there now\n";
  if (words == Words.TOP) return "  t shows tenants or VMs, any other key leaves; shares are of one CPU\n";
  if (words == Words.CHANGES)
    return (
      "  tags=A,B  protected=yes|no  restart= never, on-failure or always, max= times in window= seconds\n" +
      "  scheduling=shared|reserved|dedicated  weight=  cap=, reserve= percent of a CPU\n" +
      "  period=, latency= milliseconds  cpus=0-3,6 where it may run\n"
    );
  if (words == Words.SPEC)
    return (
      "  memory=  like 128M or 1G          kernel=, initrd=  names from images\n" +
      "  balloon= what its balloon leaves it of that from the start\n" +
      "  scheduling=shared|reserved|dedicated  weight=  cap=, reserve= percent of a CPU\n" +
      "  period=, latency= milliseconds  cpus=0-3,6 where it may run\n" +
      "  node=    the NUMA node of its memory, from hardware; without it the host chooses\n" +
      "  firmware= like seabios: starts from a disk, instead of kernel=\n" +
      "  disk=    an image, copied for the VM; disk=IMAGE,ro: read-only; disk=IMAGE,cd: a CD\n" +
      "  boot=    auto, linux, linux32, pvh, multiboot or multiboot2\n" +
      '  module=  an image for the kernel; module="IMAGE,COMMAND LINE"; may be given again\n' +
      "  debugexit=yes  a write to port 0xf4 ends it with an exit code\n" +
      "  network= a card on a network of two; network=NAME,MAC: with this address; again for more\n" +
      "  port=    a named port beside the console; may be given again\n" +
      "  rings=   split: no packed virtio rings\n" +
      "  console= serial (ttyS0) or virtio (hvc0)\n" +
      "  cmdline= in quotes if it has spaces\n" +
      "  restart= never, on-failure or always, at most max= times in window= seconds\n" +
      "  tenant=  whose it is      tags=A,B  for lists      protected=yes  rm and stop need a word\n" +
      "  start=no only adds it\n" +
      'for instance:\ncreate eve memory=80M kernel=linux initrd=initrd cmdline="console=ttyS0 quiet"\n'
    );
  return "";
}
