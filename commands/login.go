//go:build !front

package commands

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/pull"
)

func loginCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"authfile", "", "string", "Path of the credentials", ""},
		option{"cert-dir", "", "string", "Use the certificates in this directory for the registry", ""},
		option{"get-login", "", "", "Print who is logged in", ""},
		option{"password", "p", "string", "Password or Personal Access Token (PAT)", ""},
		option{"password-stdin", "", "", "Take the password from standard input", ""},
		option{"tls-verify", "", "", "Require HTTPS and verify certificates (default true, but for registries on this machine)", ""},
		option{"username", "u", "string", "Username", ""},
	}
	cmd.Before = operands(cmd, 0, 1)
	cmd.Action = func(c *cli.Context) error {
		registry := c.Args().First()
		if c.Bool("get-login") {
			user, err := pull.User(c.Context, registry, accessOf(c))
			if err == nil && user == "" {
				err = errors.New("not logged in to " + registry)
			}
			if err == nil {
				_, err = fmt.Fprintln(c.App.Writer, user)
			}
			return err
		}
		user, password, err := credentials(c)
		if err != nil {
			return err
		}
		if _, err = pull.Login(c.Context, registry, user, password, accessOf(c)); err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.App.Writer, "Login Succeeded")
		return err
	}
}

func logoutCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"all", "a", "", "Log out from all registries", ""},
		option{"authfile", "", "string", "Path of the credentials", ""},
	}
	cmd.Before = operands(cmd, 0, 1)
	cmd.Action = func(c *cli.Context) error {
		registry := c.Args().First()
		if c.Bool("all") {
			if err := pull.Logout(c.Context, "", accessOf(c)); err != nil {
				return err
			}
			_, err := fmt.Fprintln(c.App.Writer, "Removed login credentials for all registries")
			return err
		}
		if registry == "" {
			registry = "docker.io"
		}
		if err := pull.Logout(c.Context, registry, accessOf(c)); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.App.Writer, "Removed login credentials for %s\n", registry)
		return err
	}
}

// credentials takes the user's name and password from flags, standard input or the terminal.
func credentials(c *cli.Context) (user, password string, err error) {
	in := streamsOf(c).In
	user, password = c.String("username"), c.String("password")
	if c.Bool("password-stdin") {
		if user == "" || password != "" {
			return "", "", &usageError{text: "--password-stdin needs --username, and no --password", verb: "login", code: exitFailed}
		}
		data, readErr := io.ReadAll(io.LimitReader(in, 1<<20))
		return user, strings.TrimRight(string(data), "\r\n"), readErr
	}
	if (user == "" || password == "") && !isTerminal(in) {
		return "", "", &usageError{text: "cannot ask for credentials: standard input is no terminal; use --username and --password-stdin", verb: "login", code: exitFailed}
	}
	lines := bufio.NewReader(in)
	if user == "" {
		fmt.Fprint(c.App.ErrWriter, "Username: ")
		if user, err = lines.ReadString('\n'); err != nil {
			return "", "", fmt.Errorf("cannot read the user name: %w", err)
		}
	}
	if password == "" {
		fmt.Fprint(c.App.ErrWriter, "Password: ")
		if password, err = readHidden(in, lines); err != nil {
			return "", "", fmt.Errorf("cannot read the password: %w", err)
		}
		fmt.Fprintln(c.App.ErrWriter)
	}
	return strings.TrimSpace(user), strings.TrimRight(password, "\r\n"), nil
}

// readHidden reads a line that the terminal does not show.
func readHidden(in *os.File, lines *bufio.Reader) (string, error) {
	saved, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		return "", err
	}
	silent := *saved
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &silent); err != nil {
		return "", err
	}
	defer unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, saved) //nolint:errcheck // the terminal may be gone
	return lines.ReadString('\n')
}
