// Command vrouterd is the management plane: it serves NETCONF, keeps the
// configuration, and keeps a data plane (fastpathd) running and filled.
//
// It may end and come back at any time: the data plane goes on by itself, and is
// found again.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"vrouter/mgmt"
)

// config is the command line.
type config struct {
	mgmt.Options
	listen        []string
	fastpathd     string
	fastpathdArgs []string
	stopFastpathd bool
	logLevel      slog.LevelVar
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signal.Ignore(syscall.SIGPIPE)
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "vrouterd:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	c := &config{}
	root := &cobra.Command{
		Use:   "vrouterd",
		Short: "the vRouter's management plane: NETCONF, configuration, and a data plane kept running",
		Long: `vrouterd serves NETCONF (RFC 6241) over SSH and on a unix socket, keeps the
configuration, and starts the data plane, fastpathd, which it finds again after
its own restart. Ending vrouterd leaves the data plane forwarding.

Users who log in over SSH stand in a file; make one by "vrouterd user add NAME".
On this machine, root and the user of vrouterd need no entry there.`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		Version: version(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), c) },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	f := root.Flags()
	p := root.PersistentFlags()
	p.StringVar(&c.StateDir, "state-dir", "/var/lib/vrouter", "directory for what must survive: configuration, host keys, users")
	p.StringVar(&c.UsersFile, "users", "", "file with the users (default users.json in --state-dir, made when missing)")
	f.StringVar(&c.RunDir, "run-dir", "/run/vrouter", "directory for sockets, the data plane's log and process id")
	f.StringSliceVar(&c.listen, "listen", []string{"[::]:830"}, `addresses of NETCONF over SSH; "none" for no SSH`)
	f.StringVar(&c.Socket, "netconf-socket", "", "unix socket of NETCONF on this machine (default netconf.sock in --run-dir)")
	f.StringVar(&c.fastpathd, "fastpathd", "", `program of the data plane (default beside vrouterd); "none": it is started by somebody else`)
	f.StringArrayVar(&c.fastpathdArgs, "fastpathd-arg", nil, "one more argument for fastpathd, such as -cpus=2,3 (may be repeated)")
	f.BoolVar(&c.NoFastpath, "no-fastpathd", false, "no data plane: configuration is checked and kept, no packets move")
	f.BoolVar(&c.stopFastpathd, "stop-fastpathd", false, "end the data plane with vrouterd")
	f.StringVar(&c.StartupConfig, "startup-config", "", "configuration (XML) to begin with, at the first start only")
	f.TextVar(&c.logLevel, "log-level", &c.logLevel, "debug, info, warn or error")
	root.AddCommand(userCommand(c))
	return root
}

func run(ctx context.Context, c *config) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: &c.logLevel}))
	slog.SetDefault(log)
	c.Log = log
	if len(c.listen) != 1 || c.listen[0] != "none" {
		c.Listen = c.listen
	}
	if !c.NoFastpath && c.fastpathd != "none" {
		path, err := program(c.fastpathd)
		if err != nil {
			return err
		}
		c.Fastpathd = append([]string{path}, c.fastpathdArgs...)
	}
	if err := secure(); err != nil {
		return err
	}
	pace()
	s, err := mgmt.New(c.Options)
	if err != nil {
		return err
	}
	log.Info("vrouterd starts", "version", version(), "pid", os.Getpid())
	err = s.Run(ctx)
	if c.stopFastpathd {
		err = errors.Join(err, s.StopFastpath(context.Background()))
	}
	log.Info("vrouterd ends")
	return err
}

// secure keeps the keys in the configuration out of core files and from other
// processes of the same user.
func secure() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	return nil
}

// program finds fastpathd: the one named, else the one beside this program.
func program(path string) (string, error) {
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("looking for fastpathd: %w", err)
		}
		path = filepath.Join(filepath.Dir(self), "fastpathd")
	}
	fi, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("the data plane's program: %w (say where it is by --fastpathd, or --no-fastpathd to do without)", err)
	}
	if fi.IsDir() || fi.Mode().Perm()&0o111 == 0 {
		return "", fmt.Errorf("the data plane's program %s cannot be executed", path)
	}
	return path, nil
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
