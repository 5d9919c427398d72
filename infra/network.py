"""The network: one public subnet, and a security group that has no inbound rules except, if configured, for SSH.

A NAT gateway would cost more than the host, so the host has a public address.
"""

from __future__ import annotations

import pulumi
import pulumi_aws as aws
from settings import StackSettings

# It must not overlap with the networks of Docker (172.17-31), Minikube (192.168.49) and Kubernetes services (10.96) on the host.
VPC_CIDR = "10.42.0.0/24"
SUBNET_CIDR = "10.42.0.0/26"
WEB_PORTS = {"https": 443, "http": 80}  # http: Ubuntu's archive, whose packages are signed


class Network(pulumi.ComponentResource):
    """VPC, subnet, routes, S3 endpoint and the host's security group."""

    def __init__(self, settings: StackSettings, zone: str) -> None:
        super().__init__("health-predict:aws:Network", settings.prefix)
        child = pulumi.ResourceOptions(parent=self)
        name = settings.prefix
        self.vpc = aws.ec2.Vpc(
            f"{name}-vpc", cidr_block=VPC_CIDR, enable_dns_hostnames=True, tags=settings.tags("vpc"), opts=child
        )
        # Nothing uses the default group. Without rules it cannot be used by mistake.
        aws.ec2.DefaultSecurityGroup(
            f"{name}-default", vpc_id=self.vpc.id, ingress=[], egress=[], tags=settings.tags("unused"), opts=child
        )
        gateway = aws.ec2.InternetGateway(
            f"{name}-gateway", vpc_id=self.vpc.id, tags=settings.tags("gateway"), opts=child
        )
        routes = aws.ec2.RouteTable(f"{name}-routes", vpc_id=self.vpc.id, tags=settings.tags("routes"), opts=child)
        aws.ec2.Route(
            f"{name}-out",
            route_table_id=routes.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=gateway.id,
            opts=child,
        )
        self.subnet = aws.ec2.Subnet(
            f"{name}-subnet",
            vpc_id=self.vpc.id,
            cidr_block=SUBNET_CIDR,
            availability_zone=zone,
            map_public_ip_on_launch=False,
            tags=settings.tags("subnet"),
            # If AWS lists another zone first later, this must not replace the subnet and with it the host.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["availability_zone"]),
        )
        aws.ec2.RouteTableAssociation(
            f"{name}-subnet-routes", subnet_id=self.subnet.id, route_table_id=routes.id, opts=child
        )
        # Traffic to S3 is free and does not cross the internet. The endpoint has no policy, because ECR and Ubuntu use buckets of
        # their own. The roles limit what the host may do in S3.
        aws.ec2.VpcEndpoint(
            f"{name}-s3",
            vpc_id=self.vpc.id,
            service_name=f"com.amazonaws.{settings.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[routes.id],
            tags=settings.tags("s3"),
            opts=child,
        )
        self.group = _host_group(settings, self.vpc, child)
        self.register_outputs({"vpc_id": self.vpc.id, "subnet_id": self.subnet.id, "group_id": self.group.id})


def _host_group(settings: StackSettings, vpc: aws.ec2.Vpc, child: pulumi.ResourceOptions) -> aws.ec2.SecurityGroup:
    name = settings.prefix
    group = aws.ec2.SecurityGroup(
        f"{name}-host",
        description="Health Predict host: out to the web; in, at most SSH from one address",
        vpc_id=vpc.id,
        tags=settings.tags("host"),
        opts=child,
    )
    for protocol, port in WEB_PORTS.items():
        aws.vpc.SecurityGroupEgressRule(
            f"{name}-{protocol}",
            description=f"{protocol}: AWS, packages, images, code",
            security_group_id=group.id,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            cidr_ipv4="0.0.0.0/0",
            tags=settings.tags(protocol),
            opts=child,
        )
    if settings.ssh_cidr:
        aws.vpc.SecurityGroupIngressRule(
            f"{name}-ssh",
            description="SSH from one address",
            security_group_id=group.id,
            ip_protocol="tcp",
            from_port=22,
            to_port=22,
            cidr_ipv4=settings.ssh_cidr,
            tags=settings.tags("ssh"),
            opts=child,
        )
    return group
