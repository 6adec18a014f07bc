package commands

import (
	"errors"
	"slices"
	"strings"
)

// Docker has commands and flags that are of no use here, or of a later version. Who types one is told why, instead of that it is unknown.

// unknownFlag is a flag that a verb does not have.
type unknownFlag string

func (f unknownFlag) Error() string { return "unknown flag: --" + string(f) }

// refusedVerb says why a command of Docker's is not there, or "".
func refusedVerb(words []string) string {
	const (
		swarm   = "Swarm is not part of skiff"
		machine = "there is no daemon to choose: skiff works on the local machine only"
		builder = "there is one builder, which runs in the command itself"
	)
	known := []struct {
		names string
		why   string
	}{
		{"checkpoint", "checkpoints are not part of this version"},
		{"compose", "compose files are not part of this version"},
		{"context", machine},
		{"system dial-stdio", "there is no daemon to be connected with"},
		{"manifest|buildx imagetools", "skiff build --platform A,B --push makes an image for several platforms; lists of images are not made otherwise"},
		{"plugin", "there are no plugins"},
		{"swarm|node|service|stack|secret|config|volume update", swarm},
		{"trust", "signatures are the policy's matter (containers-policy.json(5))"},
		{"bake|buildx bake", "build files of several targets are not part of this version; skiff build makes one"},
		{"buildx create|buildx use|buildx inspect|buildx ls|buildx rm|buildx stop|buildx dial-stdio", builder},
		{"buildx version", "the builder is skiff's own: skiff version"},
		{"buildx dap|buildx debug|buildx history|buildx policy", "that is not part of skiff's builder"},
	}
	for _, k := range known {
		for name := range strings.SplitSeq(k.names, "|") {
			if f := strings.Fields(name); len(words) >= len(f) && slices.Equal(words[:len(f)], f) {
				return k.why
			}
		}
	}
	return ""
}

// refusedFlag says why a verb has not a flag that Docker's has, or "". (run, create and build have lists of their own.)
func refusedFlag(verb string, err error) string {
	var f unknownFlag
	if !errors.As(err, &f) {
		return ""
	}
	const (
		swarm    = "Swarm is not part of skiff"
		platform = "an image in the store has one platform; another one's is another image"
	)
	for _, k := range []struct{ verbs, flags, why string }{
		{"start", "checkpoint checkpoint-dir", "checkpoints are not part of this version"},
		{"history|image inspect|rmi|save|push", "platform", platform},
		{"images", "tree", "an image has one platform, so there is no tree to show"},
		{"network connect", "driver-opt", "networks have no options for a single container"},
		{"network connect", "link-local-ip", "link-local addresses are given by the kernel"},
		{"network create", "config-from config-only ingress scope", swarm},
		{"network create", "ipam-driver ipam-opt", "addresses are given by skiff itself: choose them by --subnet, --ip-range, --gateway and --aux-address"},
		{
			"volume create", "availability group limit-bytes required-bytes scope secret sharing topology-preferred topology-required type",
			"cluster volumes are Swarm's, which is not part of skiff",
		},
		{"volume ls", "cluster", "cluster volumes are Swarm's, which is not part of skiff"},
	} {
		if slices.Contains(strings.Split(k.verbs, "|"), verb) && slices.Contains(strings.Fields(k.flags), string(f)) {
			return k.why
		}
	}
	return ""
}
