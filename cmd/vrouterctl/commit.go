package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// defaultPersist is the name of a confirmed commit that is given none.
const defaultPersist = "vrouterctl"

func (a *app) commitCommand() *cobra.Command {
	var persist string
	c := &cobra.Command{
		Use:   "commit",
		Short: "make the candidate the running configuration",
		Long: `Make the candidate the running configuration, or change nothing and say why.

With --persist-id, confirm the commit that "vrouterctl commit confirmed" began
under that name; what has changed in the candidate since is committed with it.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, done := "<commit/>", "committed"
			if cmd.Flags().Changed("persist-id") {
				body, done = "<commit>"+element("persist-id", persist)+"</commit>", "confirmed"
			}
			return a.with(func(c *client) error {
				if err := c.do(body); err != nil {
					return hint(err, needsName, pendingHint)
				}
				a.say("%s", done)
				return nil
			})
		},
	}
	c.Flags().StringVar(&persist, "persist-id", "", "confirm the commit that was begun under this name")
	_ = c.RegisterFlagCompletionFunc("persist-id", cobra.FixedCompletions([]string{defaultPersist}, cobra.ShellCompDirectiveNoFileComp))
	c.AddCommand(a.confirmedCommand())
	return c
}

const pendingHint = `"vrouterctl commit --persist-id NAME" confirms it (NAME is ` + defaultPersist + ` unless given), "vrouterctl rollback" takes it back`

// needsName tells whether a commit was refused because another one waits for
// its confirmation.
func needsName(e rpcError) bool {
	return e.Tag == "in-use" && strings.Contains(e.Message, "persist-id")
}

func (a *app) confirmedCommand() *cobra.Command {
	var timeout time.Duration
	var name string
	c := &cobra.Command{
		Use:   "confirmed",
		Short: "commit, and go back by itself unless confirmed in time",
		Long: `Commit, and go back by itself unless "vrouterctl commit --persist-id NAME"
follows within the time: a change that cuts you off undoes itself. "vrouterctl
rollback --persist-id NAME" goes back at once. The time starts anew when this is
called again with the same NAME.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			s := seconds(timeout)
			if timeout <= 0 || s > 1<<32-1 {
				return errors.New("--within is a time like 90s or 10m")
			}
			if name == "" {
				return errors.New("--persist-id is empty")
			}
			return a.with(func(c *client) error {
				if err := a.confirmed(c, s, name); err != nil {
					return err
				}
				by := ""
				if name != defaultPersist {
					by = " --persist-id " + shellQuote(name)
				}
				a.say("committed for %v; unless confirmed the configuration then goes back", time.Duration(s)*time.Second)
				a.say("  confirm:   vrouterctl commit --persist-id %s", shellQuote(name))
				a.say("  take back: vrouterctl rollback%s", by)
				return nil
			})
		},
	}
	f := c.Flags()
	f.DurationVar(&timeout, "within", 10*time.Minute, "how long to wait for the confirmation")
	f.StringVar(&name, "persist-id", defaultPersist, "name under which to confirm")
	_ = c.RegisterFlagCompletionFunc("within", cobra.NoFileCompletions)
	_ = c.RegisterFlagCompletionFunc("persist-id", cobra.NoFileCompletions)
	return c
}

// confirmed begins a confirmed commit, or extends the one of that name. It is
// persistent: the session ends with this command, which would revert it at once.
func (a *app) confirmed(c *client, seconds int64, name string) error {
	body := "<confirmed/>" + element("confirm-timeout", strconv.FormatInt(seconds, 10)) + element("persist", name)
	err := c.do("<commit>" + body + "</commit>")
	var no *refusal
	if !errors.As(err, &no) || !needsName(no.errs[0]) {
		return err
	}
	again := c.do("<commit>" + body + element("persist-id", name) + "</commit>")
	if errors.As(again, &no) && no.errs[0].Tag == "invalid-value" && no.errs[0].Path.Text == "" {
		return hint(err, needsName, pendingHint) // it waits under another name
	}
	return again
}

// shellQuote writes a word so that it can be pasted into a shell.
func shellQuote(s string) string {
	if strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.,:/@%+=", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func (a *app) rollbackCommand() *cobra.Command {
	var name string
	var only bool
	var seq uint64
	c := &cobra.Command{
		Use: "rollback [N]", Short: "go back: take back an unconfirmed commit, or return to N versions ago",
		Long: `Without N, take back the confirmed commit that waits for its confirmation.

With N (or --sequence), load the version of running from N commits ago into the
candidate and commit it. "vrouterctl show commits" lists what there is. With
--candidate it is only loaded, so that "vrouterctl diff" can show what would
change. Changes in the candidate that are not committed are never overwritten:
commit or discard them first.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeVersions,
		RunE: func(cmd *cobra.Command, args []string) error {
			version := ""
			switch given := cmd.Flags().Changed("sequence"); {
			case len(args) == 1 && given:
				return errors.New("give N or --sequence, not both")
			case len(args) == 1:
				n, err := strconv.ParseUint(args[0], 10, 32)
				if err != nil || n == 0 {
					return fmt.Errorf("%q is no number of versions to go back", args[0])
				}
				version = element("back", strconv.FormatUint(n, 10))
			case given:
				version = element("sequence", strconv.FormatUint(seq, 10))
			case only:
				return errors.New("--candidate goes with N or --sequence: say which version to load")
			}
			if version != "" && cmd.Flags().Changed("persist-id") {
				return errors.New("--persist-id takes back a confirmed commit; N and --sequence do not need it")
			}
			return a.with(func(c *client) error {
				if version == "" {
					if err := c.do("<cancel-commit>" + element("persist-id", name) + "</cancel-commit>"); err != nil {
						return err
					}
					a.say("taken back: running is what it was before the confirmed commit")
					return nil
				}
				return a.rollback(c, `<rollback xmlns="urn:vrouter:yang:vrouter-commit">`+version+"</rollback>", only)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&name, "persist-id", defaultPersist, "name of the confirmed commit to take back")
	f.BoolVar(&only, "candidate", false, "load into the candidate without committing")
	f.Uint64Var(&seq, "sequence", 0, "the version by its number")
	_ = c.RegisterFlagCompletionFunc("persist-id", cobra.NoFileCompletions)
	_ = c.RegisterFlagCompletionFunc("sequence", cobra.NoFileCompletions)
	return c
}

// rollback loads an older version into the candidate and commits it. The lock
// of the candidate is denied while it has changes that are not committed, and
// keeps others from adding some in between; when the commit is refused,
// unlocking drops what was loaded.
func (a *app) rollback(c *client, load string, only bool) error {
	if err := c.do("<lock><target><candidate/></target></lock>"); err != nil {
		return hint(err, func(e rpcError) bool { return e.Tag == "lock-denied" && e.holder() == "0" },
			`"vrouterctl diff" shows the changes, "vrouterctl discard" drops them`)
	}
	unlock := func() error { return c.do("<unlock><target><candidate/></target></unlock>") }
	if only { // what is loaded under the lock would go with it
		if err := unlock(); err != nil {
			return err
		}
		if err := c.do(load); err != nil {
			return err
		}
		a.say(`loaded into the candidate; "vrouterctl diff" shows what a commit would change`)
		return nil
	}
	err := c.do(load)
	if err == nil {
		err = c.do("<commit/>")
	}
	if e := unlock(); err == nil {
		err = e
	}
	if err == nil {
		a.say("committed")
	}
	return err
}

// holder gives the session that holds a lock, by the error that denies it.
func (e rpcError) holder() string {
	for _, i := range e.Info.All {
		if i.XMLName.Local == "session-id" {
			return strings.TrimSpace(i.Text)
		}
	}
	return ""
}
