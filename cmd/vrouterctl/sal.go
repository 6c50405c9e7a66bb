package main

import (
	"encoding/xml"
	"strings"

	"github.com/spf13/cobra"
)

// salCommand is what can be done to the engines of the acceleration layer beside
// configuration.
func (a *app) salCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "sal", Short: "drain crypto engines and move SAs between them",
		Long: `Drain crypto engines and move SAs between them, while packets flow and without losing
any. What is done lasts until it is undone or the data plane is started again; where SAs
are wanted for good is configuration (offload of an SA, /sal/default-offload).
"vrouterctl show engines" lists the engines, "vrouterctl show ipsec sa" where SAs are.`,
	}
	one := func(use, short, rpc, done string) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
			RunE: func(_ *cobra.Command, args []string) error {
				return a.operate(rpc, done+args[0], "engine", args[0])
			}}
	}
	c.AddCommand(
		one("drain ENGINE", "have the SAs of an engine go to others, and none be placed there", "drain-engine", "drained: "),
		one("undrain ENGINE", "let an engine have SAs again; those that are wanted there return", "undrain-engine", "takes SAs again: "),
		&cobra.Command{Use: "migrate SA ENGINE", Short: "move an SA to an engine", Args: cobra.ExactArgs(2), ValidArgsFunction: cobra.NoFileCompletions,
			RunE: func(_ *cobra.Command, args []string) error {
				return a.operate("migrate-sa", args[0]+" is on "+args[1], "ipsec-sa-name", args[0], "engine", args[1])
			}})
	return c
}

// operate calls an rpc of vrouter-sal with parameters, as names and values, and says
// that it is done.
func (a *app) operate(rpc, done string, params ...string) error {
	var b strings.Builder
	b.WriteString("<" + rpc + ` xmlns="` + nsSAL + `">`)
	for i := 0; i < len(params); i += 2 {
		b.WriteString("<" + params[i] + ">")
		_ = xml.EscapeText(&b, []byte(params[i+1])) // a Builder takes all
		b.WriteString("</" + params[i] + ">")
	}
	b.WriteString("</" + rpc + ">")
	return a.with(func(c *client) error {
		if _, err := c.call(b.String()); err != nil {
			return err
		}
		a.say("%s", done)
		return nil
	})
}
