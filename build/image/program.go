package main

// User and group of all processes: nobody's on a host, as distroless images have it.
const (
	user  = 65532
	owner = "65532:65532"
)

// program is one of those that images are made of.
type program struct {
	// name is of the folder in build, image of the image, and path where the program is in that.
	name, image, path  string
	title, description string
	arguments          []string
	ports              []string
}

var programs = []program{
	{
		name: "meshvm-syncer", image: "meshvm-syncer", path: "/usr/bin/meshvm-syncer",
		title: "meshvm-syncer", description: "Streams the names of the mesh to virtual machines.",
		ports: []string{"15054/tcp", "15055/tcp"},
	},
	{
		name: "coredns", image: "coredns-meshvm", path: "/usr/bin/coredns-meshvm",
		title: "coredns-meshvm", description: "CoreDNS that answers for the mesh from its own copy of the registry.",
		arguments: []string{"-conf", "/etc/meshvm/Corefile"},
		ports:     []string{"53/udp", "53/tcp", "9153/tcp"},
	},
}

var architectures = []string{"amd64", "arm64"}
