"""Everything durable in DynamoDB: leases in the table layout of the Kinesis Client Library 2.x, the rest beside them."""
