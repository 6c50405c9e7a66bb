// Command fastpathd is the data plane: it moves packets by what the management
// plane tells it over a unix socket, and goes on doing so when that is gone.
//
// Most users never start it by hand: vrouterd does.
//
//	main.go     flags, start and end
//	process.go  what the process asks of the kernel: secrecy, lock, processors, priority
//	memory.go   when the collector may run
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"vrouter/fastpath"
	"vrouter/fastpath/rpc"
	"vrouter/pkg/gcm"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afalg"
	"vrouter/pkg/sal/afpacket"
	"vrouter/pkg/sal/afxdp"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/ipsecmb"
	"vrouter/pkg/sal/memory"
	"vrouter/pkg/sal/pcap"
	"vrouter/pkg/sal/pool"
	"vrouter/pkg/sal/tap"
)

// config is the command line.
type config struct {
	socket, stateDir, pidFile string
	buffers, large, workers   int
	cpus                      []int
	cryptoThreads             int
	cryptoCPUs                []int
	memoryLimit               int // MiB
	nice                      int
	lockMemory                bool
	gcmLevel                  gcm.Level
	logLevel                  slog.Level
	version                   bool
	kernelCrypto              bool
}

func parse(args []string, out io.Writer) (*config, error) {
	c := &config{}
	f := flag.NewFlagSet("fastpathd", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&c.socket, "socket", "/run/vrouter/fastpath.sock", "unix socket to serve the management plane on")
	f.StringVar(&c.stateDir, "state-dir", "/var/lib/vrouter/fastpath", "directory for what must survive a crash: sequence numbers")
	f.StringVar(&c.pidFile, "pid", "", "file to write the process id to")
	f.IntVar(&c.buffers, "buffers", 16384, "packet buffers, of 2112 bytes each")
	f.IntVar(&c.large, "large-buffers", 2048, "packet buffers for jumbo frames and for fragmented packets that are whole again, of 67584 bytes each; memory is taken as they are used")
	f.IntVar(&c.workers, "workers", 1, "poll loops, as long as the configuration does not say how many")
	cpus := f.String("cpus", "", "processors of the workers, in order, with commas; other threads then stay off them")
	f.IntVar(&c.cryptoThreads, "crypto-threads", 0, "threads of the look-aside engine pool0, which does crypto beside the workers; 0: there is no such engine")
	cryptoCPUs := f.String("crypto-cpus", "", "processors of these threads, in order, with commas")
	f.IntVar(&c.memoryLimit, "memory-limit", 1024, "MiB of heap from which the collector runs by itself")
	f.IntVar(&c.nice, "nice", -10, "priority among processes, -20 to 19; 0: none in particular")
	f.BoolVar(&c.lockMemory, "mlock", false, "keep all memory out of swap")
	level := f.String("gcm-level", gcm.Best().String(), "instructions for AES-GCM, and the widest for AES-CBC with HMAC-SHA2-256: vaes512, vaes256, aesni or none (the standard library), as far as the processor has them")
	f.BoolVar(&c.kernelCrypto, "kernel-crypto", false, "offer the kernel's crypto (AF_ALG, perhaps a device behind it) as the look-aside engine \"kernel\"")
	f.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	f.BoolVar(&c.version, "version", false, "print the version and end")
	f.Usage = func() {
		fmt.Fprintf(out, "fastpathd: the vRouter's data plane. vrouterd starts it.\n\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	var err error
	if c.cpus, err = processors("-cpus", *cpus); err != nil {
		return nil, err
	}
	if c.cryptoCPUs, err = processors("-crypto-cpus", *cryptoCPUs); err != nil {
		return nil, err
	}
	if c.gcmLevel, err = gcm.ParseLevel(*level); err == nil && !c.gcmLevel.Supported() {
		err = fmt.Errorf("%v: %w", c.gcmLevel, gcm.ErrUnsupported)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("-gcm-level: %w", err)
	case c.buffers < 1:
		return nil, errors.New("-buffers: at least 1")
	case c.large < 0:
		return nil, errors.New("-large-buffers: 0 or more")
	case c.workers < 1:
		return nil, errors.New("-workers: at least 1")
	case c.nice < -20 || c.nice > 19:
		return nil, errors.New("-nice: -20 to 19")
	case len(c.cpus) > c.workers:
		return nil, errors.New("-cpus: more processors than workers")
	case c.cryptoThreads < 0:
		return nil, errors.New("-crypto-threads: 0 or more")
	case len(c.cryptoCPUs) > c.cryptoThreads:
		return nil, errors.New("-crypto-cpus: more processors than crypto threads")
	}
	return c, nil
}

// processors reads a list of processors.
func processors(flag, list string) (l []int, err error) {
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s: %q is not the number of a processor", flag, s)
		}
		l = append(l, n)
	}
	return l, nil
}

func main() {
	c, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		fmt.Fprintln(os.Stderr, "fastpathd:", err)
		os.Exit(2)
	case c.version:
		fmt.Println("fastpathd", version())
		return
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.logLevel}))
	slog.SetDefault(log)
	// SIGHUP is for whoever had the terminal. A parent that is gone must not
	// end this process by the pipe that took its log.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, c, log); err != nil {
		log.Error("fastpathd ends", "err", err)
		os.Exit(1)
	}
}

// run starts what is needed from below upwards, serves until ctx is done, and
// ends it in the opposite order.
func run(ctx context.Context, c *config, log *slog.Logger) error {
	if err := secure(c.lockMemory, log); err != nil {
		return err
	}
	if err := os.MkdirAll(c.stateDir, 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	unlock, err := lockDir(c.stateDir)
	if err != nil {
		return err
	}
	defer unlock()
	usable, err := usable()
	if err != nil {
		return err
	}
	if err := reserve(usable, c.cpus); err != nil {
		return fmt.Errorf("-cpus: %w", err)
	}
	if c.nice != 0 {
		prefer(c.nice, log)
	}
	quiet(c.memoryLimit)

	large := c.large
	if large == 0 {
		large = -1
	}
	devices, err := registry(c, log)
	if err != nil {
		return err
	}
	pin := func() {}
	if c.cryptoThreads > 0 {
		inner, err := cpu.NewLevel("pool0-threads", c.gcmLevel)
		if err != nil {
			return err
		}
		threads, err := pool.New("pool0", inner, pool.Options{Threads: c.cryptoThreads, CPUs: c.cryptoCPUs})
		if err != nil {
			return fmt.Errorf("-crypto-threads: %w", err)
		}
		defer threads.Close()
		devices.AddDevice(threads)
		pin = threads.Pin
	}
	keep := func(cpus []int) error {
		err := reserve(usable, cpus)
		pin() // it moved all threads
		return err
	}
	engine, err := fastpath.New(fastpath.Options{Registry: devices, Buffers: c.buffers, Large: large, Workers: c.workers, CPUs: c.cpus,
		Usable: usable, Reserve: keep, StateDir: c.stateDir, Log: log})
	if err != nil {
		return fmt.Errorf("starting the fast path: %w", err)
	}
	err = serve(ctx, c, engine, log)
	if e := engine.Close(); err == nil {
		err = e
	}
	return err
}

func serve(ctx context.Context, c *config, engine fastpath.Engine, log *slog.Logger) error {
	if err := os.MkdirAll(filepath.Dir(c.socket), 0o755); err != nil {
		return fmt.Errorf("directory of the socket: %w", err)
	}
	l, err := rpc.Listen(c.socket)
	if err != nil {
		return err
	}
	defer l.Close()
	if c.pidFile != "" {
		if err := writePID(c.pidFile); err != nil {
			return err
		}
		defer os.Remove(c.pidFile)
	}
	log.Info("fastpathd is ready", "version", version(), "pid", os.Getpid(), "socket", c.socket, "workers", c.workers, "buffers", c.buffers)
	err = rpc.Serve(ctx, l, &collecting{Engine: engine})
	log.Info("fastpathd stops", "reason", context.Cause(ctx))
	return err
}

// registry names the drivers and engines of this build: here and nowhere else.
func registry(c *config, log *slog.Logger) (*sal.Registry, error) {
	r := &sal.Registry{}
	r.AddDriver(afpacket.New(afpacket.Options{}))
	r.AddDriver(afxdp.New(afxdp.Options{}))
	r.AddDriver(tap.New(tap.Options{}))
	r.AddDriver(pcap.New(pcap.Options{Dir: filepath.Join(c.stateDir, "captures")}))
	r.AddDriver(memory.New(memory.Options{}))
	e, err := cpu.NewLevel("cpu0", c.gcmLevel)
	if err != nil {
		return nil, err
	}
	r.AddDevice(e)
	if e, err := ipsecmb.New("ipsec-mb"); err == nil {
		r.AddDevice(e)
	} else if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, sal.ErrNotSupported) {
		log.Warn("crypto engine left out", "engine", "ipsec-mb", "err", err)
	} else {
		log.Debug("crypto engine left out", "engine", "ipsec-mb", "err", err)
	}
	if c.kernelCrypto {
		e, err := afalg.New("kernel")
		if err != nil {
			return nil, fmt.Errorf("-kernel-crypto: %w", err)
		}
		r.AddDevice(e)
	}
	return r, nil
}

// version is the build's, as the Go tool noted it.
func version() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := b.Main.Version
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" {
			v += " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
