//go:build !front

package commands

import (
	"context"
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

// withStore opens the user's images, calls f and closes them: Close brings the index up to date also when f failed half way.
func withStore(c *cli.Context, f func(s *storage.Store, records *record.Store) error) (err error) {
	for _, words := range c.Lineage() { // a verb may have the flag as well
		if words.Bool("debug") || words.String("log-level") == "debug" {
			storage.Debug()
			break
		}
	}
	records, err := record.Open(record.Options{
		Root: c.String("root"), RunRoot: c.String("runroot"), Getenv: os.Getenv, Getuid: storage.Owner,
	})
	if err != nil {
		return err
	}
	s, err := storage.Open(c.Context, storage.Options{
		Data: records.Data, Run: records.Run, AdditionalImageStores: listOf(c, "additional-image-store"),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return f(s, records)
}

// accessFlags are those of verbs that talk to registries.
func accessFlags() []cli.Flag {
	return []cli.Flag{
		option{"authfile", "", "string", "Path of the credentials (default $REGISTRY_AUTH_FILE, then containers' and Docker's files)", ""},
		option{"cert-dir", "", "string", "Use the certificates in this directory for the registry", ""},
		option{"creds", "", "string", "Credentials for the registry, USER[:PASSWORD]", ""},
		option{"tls-verify", "", "", "Require HTTPS and verify certificates (default true, but for registries on this machine)", ""},
	}
}

// accessOf reads accessFlags.
func accessOf(c *cli.Context) pull.Access {
	a := pull.Access{Creds: c.String("creds"), AuthFile: c.String("authfile"), CertDir: c.String("cert-dir"), Policy: c.String("signature-policy")}
	if c.IsSet("tls-verify") {
		verify := c.Bool("tls-verify")
		a.TLSVerify = &verify
	}
	return a
}

// operands checks how many there are, in Docker's words.
func operands(cmd *cli.Command, least, most int) cli.BeforeFunc {
	v := verb{names: cmd.Name, least: least, most: most}
	usage := usageLine(v, cmd)
	return func(c *cli.Context) error {
		if text := v.count(c.NArg()); text != "" {
			return &usageError{text: text, verb: v.name(), usage: usage, code: exitFailed}
		}
		return nil
	}
}

// interrupted gives a command that a signal ended the signal's exit code.
func interrupted(ctx context.Context, code int) int {
	var sig signalCause
	if code != 0 && errors.As(context.Cause(ctx), &sig) {
		return 128 + int(sig)
	}
	return code
}
