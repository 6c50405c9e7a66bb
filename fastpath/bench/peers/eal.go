package peers

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// eal are the options of DPDK's environment for cores and devices. Huge pages are
// used when enough are free ("make bench-peers" sees to that), else ordinary ones,
// which cost the peer a few misses of the TLB.
func eal(prefix string, cores []int, vdevs ...string) []string {
	var list []string
	for _, c := range cores {
		list = append(list, strconv.Itoa(c))
	}
	args := []string{"-l", strings.Join(list, ","), "--in-memory", "--no-pci", "--file-prefix", prefix, "--log-level=*:error", "--force-max-simd-bitwidth=512"}
	if !HugePages() {
		args = append(args, "--no-huge", "-m", "768")
	}
	for _, v := range vdevs {
		args = append(args, "--vdev", v)
	}
	return args
}

// preferred is the command line of a program of DPDK. It measures itself in longer
// slices than we do, so what else the machine does must not count against it: it
// comes before others, and what it has to do beside the measured core it does on
// another.
func preferred(main, core int, name string, args []string) []string {
	return append([]string{"taskset", "-c", fmt.Sprintf("%d,%d", main, core), "nice", "-n", "-15", name}, args...)
}

// elsewhere runs f on a thread that is kept on a core.
func elsewhere(core int, f func()) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var was, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &was); err != nil {
		return err
	}
	set.Set(core)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	defer func() { _ = unix.SchedSetaffinity(0, &was) }() // as it was a moment ago
	f()
	return nil
}

// HugePages tells whether there are enough for a program of DPDK: 512 MiB.
func HugePages() bool {
	b, err := os.ReadFile("/proc/meminfo")
	return err == nil && freeHuge(string(b)) >= 256
}

var huge = regexp.MustCompile(`(?m)^HugePages_Free:\s+(\d+)$`)

func freeHuge(meminfo string) int {
	m := huge.FindStringSubmatch(meminfo)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // digits
	return n
}

// mayRun: programs of DPDK want root for huge pages, and to say where their sockets
// are.
func mayRun() error {
	if os.Getuid() != 0 {
		return absent("not root")
	}
	return nil
}

// another is a core beside the one given, for what is not measured.
func another(core int) (int, error) {
	// Not runtime.NumCPU: the benchmark is kept on one core.
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return 0, absent("%v", err)
	}
	all, err := cpuList(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, err
	}
	for _, c := range all {
		if c != core {
			return c, nil
		}
	}
	return 0, absent("one core only")
}

// cpuList reads a list of CPUs as Linux writes it: 0-3,8.
func cpuList(s string) (l []int, err error) {
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(from)
		if err != nil {
			return nil, fmt.Errorf("the list of CPUs %q", s)
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(to); err != nil || b < a || b-a > 4096 {
				return nil, fmt.Errorf("the list of CPUs %q", s)
			}
		}
		for c := a; c <= b; c++ {
			l = append(l, c)
		}
	}
	return l, nil
}

// library finds a DPDK driver where Debian has them.
func library(name string) bool {
	dir := map[string]string{"amd64": "/usr/lib/x86_64-linux-gnu", "arm64": "/usr/lib/aarch64-linux-gnu"}[runtime.GOARCH]
	return exists(dir+"/"+name+".so.23") || exists(dir+"/"+name+".so")
}
