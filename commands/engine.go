package commands

import (
	"github.com/urfave/cli/v2"
)

// heavyVerb is a line of the table of the engine's verbs: the part that both builds know.
type heavyVerb struct{ name, usage, args, description string }

// heavyVerbs lists the verbs that need the libraries of the engine, in the order of help.
func heavyVerbs() []heavyVerb {
	return []heavyVerb{
		{
			"build", "Build an image from a Dockerfile", "PATH | URL | -",
			"RUN is on the default bridge unless --network or RUN --network says otherwise. Progress is on standard error, the image's id on standard output.",
		},
		{"builder du", "Show what builds keep: steps and cache mounts", "", ""},
		{"builder prune", "Remove the steps that builds keep", "", "Images stay; the next build does its steps again."},
		{"commit", "Create a new image from a container's changes", "CONTAINER [REPOSITORY[:TAG]]", ""},
		{
			"cp", "Copy files/folders between a container and the local filesystem", "CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
			"'-' as the source reads a tar archive from standard input and unpacks it to a directory of the container; as the destination it writes one to standard output.",
		},
		{"export", "Export a container's filesystem as a tar archive", "CONTAINER", "What volumes and other mounts contain is not exported."},
		{"import", "Import the contents from a tarball to create a filesystem image", "file|URL|- [REPOSITORY[:TAG]]", ""},
		{"load", "Load images from a tar archive or standard input", "", "Reads what `docker save`, `podman save` and `skiff save` write (docker-archive and oci-archive), plain or compressed."},
		{"login", "Authenticate to a registry", "[SERVER]", ""},
		{"logout", "Log out from a registry", "[SERVER]", ""},
		{
			"pull", "Download an image from a registry", "NAME[:TAG|@DIGEST] | TRANSPORT:PATH",
			"TRANSPORT is one of docker-archive, oci-archive, oci, dir and docker (docker://NAME). The image's id is printed on standard output, progress on standard error.",
		},
		{"push", "Upload an image to a registry", "NAME[:TAG] [DESTINATION]", ""},
		{"rmi", "Remove one or more images", "IMAGE [IMAGE...]", ""},
		{"save", "Save one or more images to a tar archive (streamed to standard output by default)", "IMAGE [IMAGE...]", ""},
		{
			"search", "Search a registry for images", "TERM",
			"Without an address before the term (localhost:5000/web) docker.io is asked; the catalogue of another registry tells names only.",
		},
		{"tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", ""},
		{"system df", "Show how much space images, containers, volumes and builds take", "", "RECLAIMABLE is what the prune verbs would free: 'image prune -a', 'container prune', 'volume prune -a' and 'builder prune -a'."},
		{"system prune", "Remove unused data", "", "Stopped containers, unused networks, images and builds' steps; what runs and what is named stays."},
		{"image prune", "Remove unused images", "", ""},
		{"image reindex", "Write the list of images anew from the store", "", "Needed only after files were changed behind skiff's back."},
	}
}

// command is the part of a cli.Command that is known without the engine.
func (v heavyVerb) command() *cli.Command {
	return &cli.Command{Name: v.name, Usage: v.usage, ArgsUsage: v.args, Description: v.description}
}
